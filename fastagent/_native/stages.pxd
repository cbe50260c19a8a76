from fa_stages cimport fa_stages

# The process's one set; for fa_stages_share, when a module is loaded.
cdef fa_stages *shared_stages() noexcept
