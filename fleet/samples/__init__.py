"""Pictures that devices keep for review: taken over HTTPS, kept sealed, opened with the fleet's own key."""
