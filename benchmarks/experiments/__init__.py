"""What was learned by changing one thing at a time: recipes of training and their controls."""
