"""The HTTP front: accepts jobs and searches, answers polls. Never imports anything heavy."""
