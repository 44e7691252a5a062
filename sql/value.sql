-- value: what a customer is worth.
-- Page: doc/value.md  Tests: test/sql/value.sql

-- @code

-- @access

-- @data

-- @view
