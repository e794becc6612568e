"""The real chat pod with every deliberate fault built in, all of them off."""

from __future__ import annotations

import acks_before_insert
import clocks_apart
import closes_right_after_migrate
import closes_without_migrate
import forgets_client_msg_id
import keeps_removed_members
import keeps_slow_clients
import never_heals
import resumes_from_the_head
import tells_before_the_log_decides

from chatpod.main import main

for fault in (
    acks_before_insert,
    clocks_apart,
    closes_right_after_migrate,
    closes_without_migrate,
    forgets_client_msg_id,
    keeps_removed_members,
    keeps_slow_clients,
    never_heals,
    resumes_from_the_head,
    tells_before_the_log_decides,
):
    fault.install()

if __name__ == "__main__":
    main()
