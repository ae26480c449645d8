"""KO->JA: prompt format, training, translation, evaluation."""
