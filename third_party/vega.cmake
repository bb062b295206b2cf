# Vega runtime: to come with lib/report
