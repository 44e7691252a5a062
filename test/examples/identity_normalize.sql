CREATE TABLE guest (guest_id int PRIMARY KEY, phone text);
