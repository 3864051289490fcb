"""What grows: workers, items, vectors, searches beside an ingest. Each module's `rows` measures one of them."""
