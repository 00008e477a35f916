"""Who the tenant is: keys and what stands behind them."""
