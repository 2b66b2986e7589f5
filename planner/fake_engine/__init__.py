"""A serving engine without a model: it answers at the pace that the cost model gives with efficiencies of yours."""
