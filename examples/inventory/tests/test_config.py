import json
import os
import tempfile
import unittest

from inventory import config
from inventory.errors import ConfigError


class ConfigTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "config.json")

    def write(self, text):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def test_defaults(self):
        self.assertEqual(config.load(environ={}), config.Config())

    def test_the_environment_wins_over_the_file(self):
        self.write(json.dumps({"port": 1, "database": "a.db"}))
        found = config.load(self.path, environ={"INVENTORY_PORT": "2", "HOME": "/"})
        self.assertEqual((found.port, found.database), (2, "a.db"))

    def test_a_missing_file(self):
        with self.assertRaisesRegex(ConfigError, "cannot read"):
            config.load(self.path, environ={})

    def test_a_broken_file(self):
        self.write("{")
        with self.assertRaisesRegex(ConfigError, "no JSON"):
            config.load(self.path, environ={})

    def test_a_file_of_another_shape(self):
        self.write("[1]")
        with self.assertRaisesRegex(ConfigError, "object"):
            config.load(self.path, environ={})

    def test_an_unknown_setting(self):
        self.write('{"prot": 1}')
        with self.assertRaisesRegex(ConfigError, "prot"):
            config.load(self.path, environ={})

    def test_a_port_that_is_no_number(self):
        with self.assertRaisesRegex(ConfigError, "port"):
            config.load(environ={"INVENTORY_PORT": "http"})
