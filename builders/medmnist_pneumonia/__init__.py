"""PneumoniaMNIST: small paediatric chest radiographs of Kermany et al. 2018."""
