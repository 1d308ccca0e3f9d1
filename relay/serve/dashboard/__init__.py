"""Pages for browsers: the operator's dashboard on `/dash`, the visitors' page on `/`. Plain files, no build step."""
