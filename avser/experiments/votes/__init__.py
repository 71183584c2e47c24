"""Models against human votes."""
