"""Frames kept for review: chosen within quotas, sealed to the fleet's key before they touch a disk, sent over HTTPS."""
