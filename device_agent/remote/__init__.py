"""What the fleet may ask of a running agent: another configuration, or a command. Nothing that is not signed counts."""
