"""Montgomery and Shenzhen chest radiographs: normal, or manifestations of tuberculosis."""
