def write_folder(): pass
