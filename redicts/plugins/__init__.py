"""The plugins: who offers a backend or a codec under a name, what it is once loaded, and a list of all."""
