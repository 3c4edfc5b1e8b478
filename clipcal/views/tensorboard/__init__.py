"""Steps as they are recorded -> TensorBoard event files, a run each for the profile and its arms."""
