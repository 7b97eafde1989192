"""What our pages share: colours, style and elements."""
