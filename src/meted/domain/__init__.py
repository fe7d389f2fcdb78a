"""What exists and its units: frozen values without behaviour to mock."""
