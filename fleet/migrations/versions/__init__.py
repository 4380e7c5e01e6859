"""One module a version of the schema; what is here is never changed once it was released."""
