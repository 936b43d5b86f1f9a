"""Built datasets in other forms: image folders, Parquet, WebDataset and ArrayRecord."""
