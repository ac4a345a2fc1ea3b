"""How a charge leaves: one interface, a module a way, chosen before anybody fills in a form."""
