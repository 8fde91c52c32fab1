"""Training of the embedded models, stage by stage, from one seed; every stage resumes where it stopped."""
