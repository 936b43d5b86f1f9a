"""COVID-19 Radiography Database: four classes, collected from several datasets."""
