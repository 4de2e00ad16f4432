"""Drawing tools of the page: colors and marks, pictures, bars and points. Sections use them."""
