"""The ground floor: every room of mmsb may import it, and it imports none of them."""
