"""Never pay twice: what makes two calls the same."""
