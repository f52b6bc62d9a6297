import contextlib
import io
import unittest

from inventory.__main__ import build, main
from inventory.config import Config

from tests.support import Client


class MainTest(unittest.TestCase):
    def test_the_application_is_built_from_its_settings(self):
        app = build(Config(database=":memory:", price_feed="http://localhost:1"))
        self.assertEqual(Client(app).call("GET", "/reports/value")[0], 200)
        app._store.close()

    def test_wrong_settings_end_the_start(self):
        complaint = io.StringIO()
        with contextlib.redirect_stderr(complaint):
            self.assertEqual(main(["--config", "/nowhere/config.json"]), 2)
        self.assertIn("cannot read the settings", complaint.getvalue())
