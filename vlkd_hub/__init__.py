"""vlkd-hub."""
