"""The orchestration around `advlora`: studies, search, execution on Ray, MLflow tracking, analysis and reports."""
