-- commerce: products, orders, lines, refunds.
-- Page: doc/commerce.md  Tests: test/sql/commerce.sql

-- @code

-- @access

-- @data

-- @view
