"""What both halves need: settings, contract, errors, broker, ledger. Never anything heavy."""
