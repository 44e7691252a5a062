# customer_cdp: build, install, test.  `make help` lists the targets.
EXTENSION   = customer_cdp
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(EXTENSION).control)
# The one list of modules, in dependency order.  Everything below follows from it.
CDP_MODULES = \
	core \
	jobs \
	jobs_cron \
	identity_normalize \
	identity_compare \
	identity_components \
	identity \
	identity_customer \
	identity_trait \
	identity_merge \
	identity_unmerge \
	identity_explain \
	identity_recheck \
	identity_match \
	identity_review \
	event_log \
	event \
	commerce \
	commerce_order \
	commerce_many \
	event_source \
	event_ingest \
	event_condition \
	value \
	value_rfm \
	value_btyd \
	value_math \
	value_model \
	value_fit \
	value_predict \
	value_logistic \
	value_lifecycle \
	value_cycle \
	value_affinity \
	value_store \
	value_judge \
	value_score \
	value_propensity \
	audience \
	tag \
	tag_query \
	tag_gin \
	tag_estimate \
	tag_customer \
	tag_bits \
	segment \
	segment_sets \
	segment_lookalike \
	tag_rule \
	points \
	points_insert \
	points_read \
	points_verify \
	tag_360 \
	value_360 \
	identity_360 \
	core_demo

MODULE_big  = $(EXTENSION)
OBJS        = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
PG_CPPFLAGS = -I$(CURDIR)/src -DCDP_VERSION='"$(EXTVERSION)"'
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare $(CDP_CFLAGS)
SHLIB_LINK  = $(CDP_LDFLAGS)

# a frozen release script is data; the script of the version under work is built, and one update from every release
DATA        = $(filter-out sql/release/$(EXTENSION)--$(EXTVERSION).sql,$(wildcard sql/release/*.sql))
UPDATES     = $(DATA:sql/release/%.sql=sql/%--$(EXTVERSION).sql)
DATA_built  = sql/$(EXTENSION)--$(EXTVERSION).sql $(UPDATES)
DOCS        = $(wildcard doc/*.md)

REGRESS        = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS   = --inputdir=test --outputdir=test/out
ISOLATION      = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=test/out
EXTRA_CLEAN    = test/out tmp_check sql/$(EXTENSION)--*.sql

PG_CONFIG ?= $(lastword $(sort $(wildcard /usr/lib/postgresql/*/bin/pg_config)) pg_config)
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
include Makefile.targets
# PGXS is left out when only targets of ours are asked for: it has its own "check", which says that it cannot, and
# another meaning for MODULES
ifneq ($(PGXS),)
ifneq ($(filter-out $(CDP_TARGETS),$(or $(MAKECMDGOALS),all)),)
include $(PGXS)
endif
endif

SQL_SOURCES = $(CDP_MODULES:%=sql/%.sql) sql/assemble.sh sql/guard.sql Makefile $(EXTENSION).control $(wildcard sql/upgrade/*.sql)
sql/$(EXTENSION)--$(EXTVERSION).sql: $(SQL_SOURCES)
	sh sql/assemble.sh install $(EXTVERSION) $(CDP_MODULES) > $@
sql/$(EXTENSION)--%--$(EXTVERSION).sql: sql/release/$(EXTENSION)--%.sql $(SQL_SOURCES)
	sh sql/assemble.sh update $* $(EXTVERSION) $(CDP_MODULES) > $@
$(OBJS): $(wildcard src/*.h) $(EXTENSION).control
# simulated customers are the same on every machine: no product and sum in one rounding
src/value_simulate.o: override CFLAGS += -ffp-contract=off
