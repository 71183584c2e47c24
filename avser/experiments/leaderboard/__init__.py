"""Systems side by side under one protocol."""
