"""A candidate beside the model that serves: what both said is added up, compared, and a recommendation made."""
