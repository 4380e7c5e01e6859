"""What can be asked of this device itself: a preview page and metrics over HTTP, both off by default."""
