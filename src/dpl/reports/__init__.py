"""What a run shows to a person: the HTML report."""
