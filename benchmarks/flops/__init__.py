"""What the methods cost: counted through the modules, checked against closed forms, reported."""
