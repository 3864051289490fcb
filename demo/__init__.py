"""`make demo`: the main job on real photographs."""
