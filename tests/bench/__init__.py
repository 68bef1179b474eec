"""What a load costs, beside the floor and beside what people use today: `make bench`. Every ratio is of one run on one machine."""
