"""Demo traffic: who logs what and when, and whether all of it arrived."""
