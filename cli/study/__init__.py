"""What the command line computes from a collection's vectors by itself. Needs the extra `tools`."""
