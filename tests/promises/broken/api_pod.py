"""The real API pod with its deliberate fault built in, off."""

from __future__ import annotations

import forgets_client_msg_id
import hands_out_any_pod
import reads_from_a_replica_that_lags

from apipod.main import main

hands_out_any_pod.install()
reads_from_a_replica_that_lags.install()
forgets_client_msg_id.install()

if __name__ == "__main__":
    main()
