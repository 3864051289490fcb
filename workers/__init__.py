"""The processes that do the work: fetch, decode, embed, index, search."""
