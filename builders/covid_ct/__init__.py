"""COVID-CT: slices of chest CT cut from the figures of papers, with and without COVID-19."""
