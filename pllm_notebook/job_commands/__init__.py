"""What a person may ask of batch jobs: look, fetch, cancel, send again, send live, take results in."""
