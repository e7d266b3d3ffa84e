"""From partial text to an expert: signals, classifier, calibration and the prompts behind them."""
