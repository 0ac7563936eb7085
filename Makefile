.PHONY: rustlib
rustlib:
	@.ci/rustlib
