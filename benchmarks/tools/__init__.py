"""What writes files of this repository: pages of results, the sample, a taxdump, kernel tables."""
