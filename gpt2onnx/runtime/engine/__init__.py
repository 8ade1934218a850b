"""Many requests on one decoder: who runs when, and prompts whose beginnings were read before."""
