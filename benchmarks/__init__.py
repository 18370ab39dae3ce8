"""What redicts costs beside the thing itself, as ratios within one run. See the documentation for how to read them."""
